"""What people take away: JSON, CSV, Parquet, subtitles, ELAN, a picture, a page."""
