"""`latentsr demo`: a page to restore recordings in a browser (extra `demo`).

`command` is the command line, `server` what listens, `page` what is seen. The model lives in a process of its own:
`supervisor` is its side here, with the queue, `work` the side over there. `look` checks uploads, `store` keeps files
for as long as someone may want them, `spectrogram` draws.
"""
