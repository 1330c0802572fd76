//! Arguments → settings → `server::run`, and nothing else.

fn main() {}
