"""The shared record of every data set: written, planned into batches, read and decoded."""
