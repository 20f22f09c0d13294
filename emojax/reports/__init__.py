"""Reports: everything that is rendered (pages, plots, terminal tables, captions, result files)."""
