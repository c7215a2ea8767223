"""All that is known of a user, removed from every place, with a proof."""
