"""Everything that people look at: tables, pages, plots, subtitles."""
