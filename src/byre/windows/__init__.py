"""What Windows itself writes to its disk: registry hives, PE files, boot configuration, and the facts in them."""
