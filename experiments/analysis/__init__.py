"""What a store says: curves, aggregates over controllers, standings, how far it is safe to prune."""
