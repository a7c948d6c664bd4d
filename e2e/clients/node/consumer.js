// Prints orders as they come. Start a second one: the members of a group share the partitions.
import { Kafka, logLevel } from 'kafkajs'

const kafka = new Kafka({
  clientId: 'orders',
  brokers: [process.env.BOOTSTRAP_SERVERS ?? 'localhost:9092'],
  logLevel: logLevel.ERROR,
})
const consumer = kafka.consumer({
  groupId: process.env.GROUP_ID ?? 'example-consumer',
  sessionTimeout: 6000,
  heartbeatInterval: 1000,
})

await consumer.connect()
await consumer.subscribe({ topic: process.env.TOPIC ?? 'orders', fromBeginning: true })
await consumer.run({
  eachMessage: async ({ topic, partition, message }) => {
    console.log(`${topic}-${partition}@${message.offset} ${message.key} ${message.value}`)
  },
})

process.on('SIGINT', async () => {
  await consumer.disconnect() // commits and leaves the group
  console.error('bye')
  process.exit(0)
})
