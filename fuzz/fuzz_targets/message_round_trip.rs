//! See `criu_image::fuzz::message_round_trip`.
#![cfg_attr(feature = "libfuzzer", no_main)]

criu_fuzz::target!("message_round_trip", criu_image::fuzz::message_round_trip);
