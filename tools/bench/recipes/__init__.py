"""One recipe a file: `ROWS`, the names of its rows, and `measure(name, lab)`, which gives one `Row`."""
