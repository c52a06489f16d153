"""The claims table and the report as one web page."""
