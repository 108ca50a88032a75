// Reads exported contracts with tools that are not ours: @asyncapi/parser, ajv, openapi-typescript with the TypeScript compiler.
// Arguments: the AsyncAPI document, the OpenAPI document, a folder for what is generated. Prints what was read as one line of JSON.
'use strict';
const fs = require('fs');
const path = require('path');
const { execFileSync } = require('child_process');
const { Parser } = require('@asyncapi/parser');
const Ajv = require('ajv/dist/2020').default;
const ts = require('typescript');

const [asyncapiFile, openapiFile, folder] = process.argv.slice(2);
const fail = (text) => { throw new Error(text); };

// Errors and warnings are faults. Below them the parser says only that there is a newer version of AsyncAPI than 3.0.
async function parse(text) {
    const { document, diagnostics } = await new Parser().parse(text);
    const faults = diagnostics.filter((diagnostic) => diagnostic.severity <= 1);
    if (!document || faults.length) fail(`@asyncapi/parser: ${JSON.stringify(faults, null, 1)}`);
}

// The event without each member that its schema demands.
const lacking = (schema, payload) => (schema.required || []).map((name) => {
    const { [name]: _, ...rest } = payload;
    return rest;
});

function compile(cases) {
    const cli = path.join(path.dirname(require.resolve('openapi-typescript/package.json')), 'bin/cli.js');
    execFileSync(process.execPath, [cli, openapiFile, '--output', path.join(folder, 'types.ts')], { stdio: 'pipe' });
    const lines = ["import type { components } from './types';"];
    for (const { id, payload, wrong } of cases) {
        const declare = (value) => `export const _${lines.length}: components["schemas"]["${id}"] = ${JSON.stringify(value)};`;
        lines.push(declare(payload));
        for (const value of wrong) lines.push('// @ts-expect-error', declare(value));
    }
    const file = path.join(folder, 'use.ts');
    fs.writeFileSync(file, lines.join('\n'));
    const program = ts.createProgram([file], { strict: true, noEmit: true, types: [] });
    const faults = ts.getPreEmitDiagnostics(program).map((fault) => ts.flattenDiagnosticMessageText(fault.messageText, '\n'));
    if (faults.length) fail(`tsc: ${faults.join('\n')}\n${lines.join('\n')}`);
}

(async () => {
    const text = fs.readFileSync(asyncapiFile, 'utf8');
    await parse(text);
    const document = JSON.parse(text);
    const ajv = new Ajv({ strict: false, validateFormats: false });
    ajv.addSchema({ $id: 'exported', components: document.components });
    const cases = [];
    for (const [id, message] of Object.entries(document.components.messages)) {
        const isValid = ajv.compile({ $ref: `exported#/components/schemas/${id}` });
        for (const { payload } of message.examples) {
            const wrong = lacking(document.components.schemas[id], payload);
            if (!isValid(payload)) fail(`ajv: ${id}: ${JSON.stringify(isValid.errors)}`);
            for (const value of wrong) if (isValid(value)) fail(`ajv takes ${JSON.stringify(value)} for ${id}`);
            cases.push({ id, payload, wrong });
        }
    }
    compile(cases);
    const schemas = Object.keys(JSON.parse(fs.readFileSync(openapiFile, 'utf8')).components.schemas);
    const wrong = cases.reduce((sum, one) => sum + one.wrong.length, 0);
    console.log(JSON.stringify({ messages: Object.keys(document.components.messages), schemas, events: cases.length, wrong }));
})().catch((error) => { console.error(error.message); process.exit(1); });
