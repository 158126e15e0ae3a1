//! See `criu_migrate::fuzz::migrate_message`.
#![cfg_attr(feature = "libfuzzer", no_main)]

criu_fuzz::target!("migrate_message", criu_migrate::fuzz::migrate_message);
