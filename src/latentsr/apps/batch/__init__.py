"""`latentsr batch`: an archive restored by one or many processes, over kills and bad files.

plan ─► engine (serial | processes | ray) ─► worker ─► restore_file
                                                └─► journal: what was begun, what became of it
"""
