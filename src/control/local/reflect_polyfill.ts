/**
 * What @peculiar/x509 needs before it is loaded. In a module of its own, because Bun's bundler keeps the order of imports between
 * modules of the project, but puts a bare `import "reflect-metadata"` (CommonJS) after the ES modules beside it.
 */
import "reflect-metadata";
