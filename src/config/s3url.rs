//! `s3://` URLs taken apart.
