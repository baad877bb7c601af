package server

import (
	"fmt"
	"slices"
	"strings"

	"github.com/taskgate/taskgate/core/catalog"
	"github.com/taskgate/taskgate/core/config"
)

// unreached says which reviews and roles nobody can ever have, since no issuer
// may assert the groups that they name.
func unreached(c *config.Config, cat *catalog.Catalog) (out []string) {
	list := issuers(c)
	for _, t := range cat.Tasks {
		for i := range t.Written {
			w := &t.Written[i]
			if w.Rule.Review == nil {
				continue
			}
			groups := w.Rule.Review.Groups
			if !slices.ContainsFunc(groups, func(g string) bool {
				for i := range list {
					if list[i].May(g) {
						return true
					}
				}
				return false
			}) {
				out = append(out, w.Wrong("nobody can approve it: no issuer may assert %s (issuers: may_assert)", strings.Join(groups, " or ")).Error())
			}
		}
	}
	for i := range list {
		for role, groups := range c.Issuers[i].Roles {
			for _, g := range groups {
				if !list[i].May(g) {
					out = append(out, fmt.Sprintf("issuers[%d].roles.%s: nobody has the role by the group %q: the issuer may not assert it (may_assert)", i, role, g))
				}
			}
		}
	}
	return out
}

// closed says which resources nobody can come to, since no listener speaks
// their protocol.
func closed(c *config.Config) (out []string) {
	for name, r := range c.Resources {
		if c.Listeners.All()[r.Protocol] == nil {
			out = append(out, fmt.Sprintf("resources.%s: nobody gets there: the gateway does not listen for its protocol (listeners: {%s: …})", name, r.Protocol))
		}
	}
	return out
}
