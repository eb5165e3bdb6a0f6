//! Suites that run in the guest against real ublk
