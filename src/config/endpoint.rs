//! Endpoints: schemes, hosts, and what a host name implies.
