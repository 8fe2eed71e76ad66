//! litestream.yml and replica URLs to typed locations (FORMAT §5).
