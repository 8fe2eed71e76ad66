//! (catalogue, target) → the files to merge, oldest first. Pure: it returns a plan, or the files
//! whose times it must know (FORMAT §3).
