#![no_main]
rabbitry_fuzz::fuzz!();
