package approval

import (
	"slices"
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Person is who looks or decides, with the groups of now.
type Person struct {
	Issuer  string
	Subject string
	Groups  []string
	All     bool // has a role by which every request is seen, and no more of them decided
}

// is says whether a subject of an issuer is exactly this one.
func (p *Person) is(issuer, subject string) bool { return p.Issuer == issuer && p.Subject == subject }

// in says whether the person has one of the groups.
func (p *Person) in(groups []string) bool {
	return slices.ContainsFunc(groups, func(g string) bool { return g != "" && slices.Contains(p.Groups, g) })
}

// key names the human being: two spellings of one subject are one person, and so
// are equal subjects of two issuers that speak of the same people.
func (s *Service) key(issuer, subject string) string {
	people := ""
	if s.Directory != nil {
		people = s.Directory(issuer)
	}
	return fold(people) + "\x00" + fold(subject)
}

func fold(s string) string {
	s = norm.NFKC.String(cases.Fold().String(norm.NFKC.String(s)))
	return strings.Map(func(c rune) rune {
		if unseen(c) && c != ' ' {
			return -1
		}
		return c
	}, s)
}
