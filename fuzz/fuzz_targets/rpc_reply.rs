//! See `criu::fuzz::rpc_reply`.
#![cfg_attr(feature = "libfuzzer", no_main)]

criu_fuzz::target!("rpc_reply", criu::fuzz::rpc_reply);
