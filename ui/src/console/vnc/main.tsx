import { mount } from '../../shell/mount';
import { ConsolePage } from '../ConsolePage';
import { takeOpening } from '../fragment';

mount(
  <ConsolePage
    kind="vnc"
    opening={takeOpening()}
    make={async (place) => new (await import('./driver')).VncDriver(place)}
  />,
);
