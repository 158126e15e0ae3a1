//! See `criu_inspect::fuzz::json_round_trip`.
#![cfg_attr(feature = "libfuzzer", no_main)]

criu_fuzz::target!("json_round_trip", criu_inspect::fuzz::json_round_trip);
