"""The factory: a blank crypto element becomes a locked, paired, certified one; and what flash needs."""
