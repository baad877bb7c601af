package sqlgen

// Listed gives the columns that the tasks list, by table, on a server of that
// major, but for those that no text may name.
func Listed(major int) map[string][]string {
	list := map[string][]string{}
	for _, t := range tables {
		if t.since > major {
			continue
		}
		for _, c := range t.columns {
			if c.mask != "-" && c.mask != "=" {
				list[t.name] = append(list[t.name], c.name)
			}
		}
	}
	return list
}
