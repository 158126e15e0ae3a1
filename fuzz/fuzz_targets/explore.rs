//! See `criu_inspect::fuzz::explore`.
#![cfg_attr(feature = "libfuzzer", no_main)]

criu_fuzz::target!("explore", criu_inspect::fuzz::explore);
