-- What nodes show each other before they answer for an item (docs/adr/0010-peers.md). Only accounts that may read mc_meta know it: nodes
-- and the monitor. Drawn once; whoever wants another one updates the row and restarts the nodes.
INSERT IGNORE INTO mc_meta (name, value) VALUES ('peer_secret', LOWER(HEX(RANDOM_BYTES(32))));
