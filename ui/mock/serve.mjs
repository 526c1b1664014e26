// `npm run mock`: the built pages against the mock, to look at.
import { Mock } from './server.mjs';

const mock = await new Mock().listen(8080);
const [guest] = mock.guests;
console.log(`${mock.url}/   (${mock.user.username} / ${mock.user.password})`);
console.log(`${mock.url}/guest.html?token=${mock.tenants.token(guest, Math.floor(Date.now() / 1000) + 86_400)}`);
