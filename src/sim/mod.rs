//! S3 simulator and replica generator for tests, benches and scripts.
