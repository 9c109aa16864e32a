"""Videos and pictures: decoding, boxes of the person, time offsets, sheets to look at."""
