"""A call of the policy: by picture ids outside, with the pictures inside."""
