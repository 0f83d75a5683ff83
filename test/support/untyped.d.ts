// The former versions come without types of their own, and share the names of the current ones.
declare module 'express4'
declare module 'koa2'
declare module 'koa-better-flash'

declare module 'autocannon' {
  interface Client {
    setHeaders(headers: Record<string, string>): void
  }
  interface Options {
    url: string
    connections: number
    /** Seconds. */
    duration: number
    setupClient(client: Client): void
  }
  export default function autocannon(options: Options): Promise<{ requests: { average: number }; non2xx: number }>
}
