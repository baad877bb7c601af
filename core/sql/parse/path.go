package parse

// Path reads a list of names as a value of search_path has it: identifiers,
// quoted or folded to small letters, with commas between. ok is false where the
// server would not take it.
func Path(s string) (names []string, ok bool) {
	names = []string{}
	i := 0
	space := func() {
		for i < len(s) && (s[i] == ' ' || s[i] >= '\t' && s[i] <= '\r') {
			i++
		}
	}
	if space(); i == len(s) {
		return names, true
	}
	for {
		var name []byte
		if i < len(s) && s[i] == '"' {
			for i++; ; i++ {
				if i == len(s) {
					return nil, false
				}
				if s[i] == '"' {
					if i+1 == len(s) || s[i+1] != '"' {
						break
					}
					i++
				}
				name = append(name, s[i])
			}
			i++
			names = append(names, cut63(string(name)))
		} else {
			from := i
			for i < len(s) && s[i] != ',' && s[i] != ' ' && (s[i] < '\t' || s[i] > '\r') {
				i++
			}
			if from == i {
				return nil, false
			}
			names = append(names, cut63(lower(s[from:i])))
		}
		space()
		if i == len(s) {
			return names, true
		}
		if s[i] != ',' {
			return nil, false
		}
		i++
		space()
	}
}
