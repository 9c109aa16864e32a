"""Building blocks of HTML pages and plots."""
