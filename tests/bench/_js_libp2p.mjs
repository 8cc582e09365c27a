// js-libp2p as it comes, with TCP, Noise and Yamux: one process that gives bytes, and one that takes them.
//
// `node _js_libp2p.mjs give` prints its address. `node _js_libp2p.mjs take ADDRESS` reads numbers of bytes, a line each,
// has so many sent to it on one stream, drops them, and prints the seconds that took.
import { createInterface } from 'node:readline'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const SOURCE = '/bench/source/1'
const PIECE = 256 * 1024

async function host (listen) {
  return createLibp2p({
    addresses: { listen },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false } // it asks by a ping protocol that neither side has
  })
}

async function give () {
  const node = await host(['/ip4/127.0.0.1/tcp/0'])
  const bytes = crypto.getRandomValues(new Uint8Array(65536))
  const piece = new Uint8Array(PIECE).map((_, n) => bytes[n % bytes.length])
  await node.handle(SOURCE, async (stream) => {
    for await (const request of stream) {
      let left = Number(Buffer.from(request.subarray()).readBigUInt64BE())
      while (left > 0) {
        if (!stream.send(piece.subarray(0, Math.min(left, PIECE)))) {
          await stream.onDrain()
        }
        left -= PIECE
      }
      await stream.close()
    }
  })
  console.log(node.getMultiaddrs()[0].toString())
}

async function take (address) {
  const node = await host([])
  const connection = await node.dial(multiaddr(address))
  for await (const line of createInterface({ input: process.stdin })) {
    const size = Number(line)
    const request = Buffer.alloc(8)
    request.writeBigUInt64BE(BigInt(size))
    const start = process.hrtime.bigint()
    const stream = await connection.newStream(SOURCE)
    stream.send(request)
    let got = 0
    for await (const piece of stream) {
      got += piece.byteLength
    }
    const end = process.hrtime.bigint()
    if (got !== size) {
      throw new Error(`${got} bytes of ${size} came`)
    }
    console.log(Number(end - start) / 1e9)
  }
  await node.stop()
}

await (process.argv[2] === 'give' ? give() : take(process.argv[3]))
