//! Placeholder so that the manifest is complete; replaced below.
fn main() {}
