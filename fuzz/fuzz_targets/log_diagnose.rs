//! See `criu::fuzz::log_diagnose`.
#![cfg_attr(feature = "libfuzzer", no_main)]

criu_fuzz::target!("log_diagnose", criu::fuzz::log_diagnose);
