//! The end-to-end tests are in `tests/e2e`; `tools/e2e` runs them in a machine of their own.
