// Places an order and records that it was placed: both, or neither. Needs github.com/lib/pq.
//
//	go run place_order.go postgres://localhost/shop 42 99.50
package main

import (
	"database/sql"
	"encoding/json"
	"log"
	"os"
	"strconv"

	_ "github.com/lib/pq"
)

func placeOrder(db *sql.DB, orderID int64, total string) error {
	payload, err := json.Marshal(map[string]any{"order_id": orderID, "total": total})
	if err != nil {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	// Rolls back whatever returns early; after the commit it does nothing.
	defer tx.Rollback()
	if _, err := tx.Exec("insert into orders (id, total, status) values ($1, $2, 'placed')", orderID, total); err != nil {
		return err
	}
	// After the statement that inserts or locks the order, so that its events stay in order.
	if _, err := tx.Exec(
		"insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ($1, $2, $3, $4)",
		"order.placed", "order", strconv.FormatInt(orderID, 10), payload,
	); err != nil {
		return err
	}
	return tx.Commit()
}

func main() {
	db, err := sql.Open("postgres", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	orderID, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	if err := placeOrder(db, orderID, os.Args[3]); err != nil {
		log.Fatal(err)
	}
}
