package sql_test

import (
	"syscall"
	"testing"

	"github.com/taskgate/taskgate/core/sql"
)

// The texts that docs/perf/analysis.md speaks of: the smallest, what an
// application asks all day (200 bytes), and what an analyst asks once (2 KB).
var measured = []struct{ name, text string }{
	{"one", "SELECT 1"},
	{"oltp", `SELECT o.id, o.status, o.total, c.name, c.email FROM orders o JOIN customers c ON c.id = o.customer_id
WHERE o.id = $1 AND o.status <> 'closed' AND c.email = $2 ORDER BY o.created DESC LIMIT 10`},
	{"analytic", `WITH recent AS (
  SELECT o.id, o.customer_id, o.status, o.total, o.created, date_trunc('month', o.created) AS month
  FROM orders o WHERE o.created >= current_date - interval '1 year' AND o.status IN ('new', 'paid', 'shipped', 'done')
), lines AS (
  SELECT i.order_id, count(*) AS positions, sum(i.quantity) AS pieces, sum(i.quantity * i.price) AS worth,
    max(i.price) AS dearest, string_agg(i.sku, ', ' ORDER BY i.sku) AS skus
  FROM items i WHERE i.quantity > 0 GROUP BY i.order_id HAVING sum(i.quantity * i.price) > 10.5
), paid AS (
  SELECT p.order_id, sum(p.amount) FILTER (WHERE p.state = 'done') AS amount, count(*) FILTER (WHERE p.state <> 'done') AS open
  FROM payments p GROUP BY p.order_id
)
SELECT c.id, c.name AS customer, lower(split_part(c.email, '@', 2)) AS domain, r.month, count(DISTINCT r.id) AS orders,
  sum(l.positions) AS positions, sum(l.pieces) AS pieces, round(sum(l.worth), 2) AS worth, max(l.dearest) AS dearest,
  round(avg(r.total), 2) AS average, coalesce(sum(d.amount), 0) AS paid, coalesce(sum(d.open), 0) AS open,
  CASE WHEN sum(r.total) > 1000 THEN 'large' WHEN sum(r.total) > 100 THEN 'middle' ELSE 'small' END AS class,
  rank() OVER (PARTITION BY r.month ORDER BY sum(r.total) DESC) AS place,
  sum(r.total) - lag(sum(r.total)) OVER (PARTITION BY c.id ORDER BY r.month) AS growth,
  (SELECT count(*) FROM orders e WHERE e.customer_id = c.id AND e.created < r.month) AS earlier,
  bool_or(r.status = 'new') AS waiting
FROM recent r JOIN customers c ON c.id = r.customer_id
  LEFT JOIN lines l ON l.order_id = r.id
  LEFT JOIN paid d ON d.order_id = r.id
WHERE c.status = 'active' AND c.email LIKE '%@example.com' AND NOT EXISTS (
    SELECT 1 FROM payments q WHERE q.order_id = r.id AND q.state = 'open' AND q.amount > r.total)
GROUP BY c.id, c.name, c.email, r.month
HAVING count(DISTINCT r.id) > 1 OR sum(r.total) BETWEEN 50 AND 5000
ORDER BY r.month DESC, place, customer NULLS LAST LIMIT 100`},
}

// cpu reports what an operation costs in the time that processors spend on it:
// on a busy machine the clock says something else.
func cpu(b *testing.B, op func()) {
	spent := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	b.ReportAllocs()
	op()
	start := spent()
	for b.Loop() {
		op()
	}
	b.ReportMetric(float64(spent()-start)/float64(b.N), "cpu-ns/op")
}

// BenchmarkText reads texts: their syntax alone, and all that a verdict needs,
// with the operations, the lineage and the text that is forwarded.
func BenchmarkText(b *testing.B) {
	c := loaded(b)
	for _, m := range measured {
		b.Run(m.name+"/parse", func(b *testing.B) {
			cpu(b, func() {
				t, err := c.Grammar.Parse(m.text)
				if err != nil {
					b.Fatal(err)
				}
				t.Release()
			})
		})
		b.Run(m.name+"/analysis", func(b *testing.B) {
			cpu(b, func() {
				if a, err := sql.Analyze(c, m.text); err != nil || a.Statement.Incomplete != "" {
					b.Fatal(a, err)
				}
			})
		})
	}
}
