"""A study: experiments that are trained and scored alike, and the report of what came out."""
