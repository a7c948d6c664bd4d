// Sends orders of three customers. A customer's orders keep their order: the key chooses the partition.
import { Kafka, logLevel, Partitioners } from 'kafkajs'

const topic = process.env.TOPIC ?? 'orders'
const count = Number(process.argv[2] ?? 9)

const kafka = new Kafka({
  clientId: 'orders',
  brokers: [process.env.BOOTSTRAP_SERVERS ?? 'localhost:9092'],
  logLevel: logLevel.ERROR,
})
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })

await producer.connect()
for (let number = 1; number <= count; number++) {
  const customer = `customer-${((number - 1) % 3) + 1}`
  const order = JSON.stringify({ order: number, customer, from: 'node' })
  const [sent] = await producer.send({ topic, acks: -1, messages: [{ key: customer, value: order }] })
  console.log(`${topic}-${sent.partition}@${sent.baseOffset} ${customer} ${order}`)
}
await producer.disconnect()
