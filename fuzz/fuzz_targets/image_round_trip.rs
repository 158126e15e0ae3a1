//! See `criu_image::fuzz::image_round_trip`.
#![cfg_attr(feature = "libfuzzer", no_main)]

criu_fuzz::target!("image_round_trip", criu_image::fuzz::image_round_trip);
