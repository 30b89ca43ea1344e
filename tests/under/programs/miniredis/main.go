// miniredis as a server, started with redis-server's options: it takes the port, and ignores the rest.
package main

import (
	"log"
	"os"
	"slices"

	"github.com/alicebob/miniredis/v2"
)

func main() {
	port := os.Args[slices.Index(os.Args, "--port")+1]
	if err := miniredis.NewMiniRedis().StartAddr("127.0.0.1:" + port); err != nil {
		log.Fatal(err)
	}
	select {}
}
