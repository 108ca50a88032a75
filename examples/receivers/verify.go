// Verifies a webhook of outboxd: go run verify.go SECRET BODY_FILE, the three headers in the environment as a server gives them.
// Needs nothing but the standard library.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// isGenuine tells whether one of the signatures was made with this secret for this id, moment and body, and the moment is not long ago.
func isGenuine(secret, id, timestamp, signatures string, body []byte) bool {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return false
	}
	if age := time.Now().Unix() - seconds; age > 300 || age < -300 {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	found := false
	for _, signature := range strings.Split(signatures, " ") {
		if hmac.Equal(expected, []byte(signature)) { // takes the same time either way
			found = true
		}
	}
	return found
}

func main() {
	body, err := os.ReadFile(os.Args[2]) // as it came, before anything parses it
	if err != nil || !isGenuine(os.Args[1], os.Getenv("WEBHOOK_ID"), os.Getenv("WEBHOOK_TIMESTAMP"), os.Getenv("WEBHOOK_SIGNATURE"), body) {
		fmt.Fprintln(os.Stderr, "refused: no signature of ours, or an old one")
		os.Exit(1)
	}
	fmt.Println(string(body))
}
