"""Who is champion: the evidence, the verdict, the moves and their ledger."""
