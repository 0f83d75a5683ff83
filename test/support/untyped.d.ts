// The former versions come without types of their own, and share the names of the current ones.
declare module 'express4'
declare module 'koa2'
declare module 'koa-better-flash'
