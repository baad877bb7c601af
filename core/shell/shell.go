// Package shell reads the text of a command as a shell would, as far as that can
// be known beforehand: words that stand for themselves become operations, and
// everything else is said to be unknown.
package shell
