//! See `criu_inspect::fuzz::json_text`.
#![cfg_attr(feature = "libfuzzer", no_main)]

criu_fuzz::target!("json_text", criu_inspect::fuzz::json_text);
