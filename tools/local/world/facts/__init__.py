"""Facts of the embedded world's pages: `country_facts` and `lead_facts` read them, `gather` joins them."""
