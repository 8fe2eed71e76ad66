//! The S3 simulator as a program: serves folders, or generates replicas into them.

fn main() {}
