//! See `criu_image::fuzz::address_space`.
#![cfg_attr(feature = "libfuzzer", no_main)]

criu_fuzz::target!("address_space", criu_image::fuzz::address_space);
